-- expire(key, marks, now, remember): how long Redis keeps the hash of a key that nobody holds or moves: with a pin, or a
-- hold without end, for ever.
local function expire(key, marks, now, remember)
  if marks.pin or marks.hold == 0 then
    redis.call('PERSIST', binding .. key)
  else
    local ms = marks.hold and remember + math.max(marks.hold - now, 0) or remember
    redis.call('PEXPIRE', binding .. key, digits(ms))
  end
end
