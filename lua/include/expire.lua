-- expire(key, marks, now, remember): how long Redis keeps the hash of a key that nobody holds or moves: with a pin, or a
-- hold without end, for ever.
local function expire(key, marks, now, remember)
  if marks.pin or marks.hold == 0 then
    redis.call('PERSIST', binding .. key)
  else
    local kept = math.max(marks.hold or now, marks.lock or now, now)
    redis.call('PEXPIRE', binding .. key, digits(remember + kept - now))
  end
end
