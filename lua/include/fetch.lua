-- fetch(key, now, remember): the binding of a key, or nil if there is none or it was idle for so long that it is as good
-- as absent; then its marks, without a hold or lock that is over. The key's own expiry only collects what nobody asks for:
-- it runs by the server's clock, not by ours. in_time does the same with what read has found.
local function in_time(b, marks, key, now, remember)
  if marks.hold and marks.hold > 0 and marks.hold <= now then
    marks.hold = nil
    redis.call('HDEL', binding .. key, 'hold') -- with it goes a key that has nothing else, and its time to live
  end
  if marks.lock and marks.lock <= now then
    marks.lock, marks.locker = nil, nil
    redis.call('HDEL', binding .. key, 'lock', 'locker')
  end
  if b and b.n == 0 and not b.moving and b.idle and b.idle + remember <= now then
    unbind(b, now, remember)
    return nil, marks
  end
  return b, marks
end

local function fetch(key, now, remember)
  local b, marks = read(key)
  return in_time(b, marks, key, now, remember)
end
