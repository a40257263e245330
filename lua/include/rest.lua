-- rest(b, now, remember, kick_delay): after the last change of a key's counts. Without sessions it is idle from now on, or
-- is forgotten if its login was never proven. A move goes on when the old home is empty.
local function rest(b, now, remember, kick_delay)
  if b.n > 0 then
    if b.idle then
      redis.call('HDEL', binding .. b.key, 'idle')
      redis.call('PERSIST', binding .. b.key)
      b.idle = nil
    end
  elseif b.unproven and not b.moving then
    unbind(b, now, remember)
  elseif not b.idle then
    redis.call('HSET', binding .. b.key, 'idle', now)
    b.idle = now
    if not b.moving then expire(b.key, b.marks, now, remember) end
  end
  if b.moving then attend(b, now, kick_delay) end
end
