-- rest(b, now, remember): after the last change of a key's counts. Without sessions it is idle from now on, or is
-- forgotten if its login was never proven.
local function rest(b, now, remember)
  if b.n > 0 then
    if b.idle then
      redis.call('HDEL', binding .. b.key, 'idle')
      redis.call('PERSIST', binding .. b.key)
    end
  elseif b.unproven then
    redis.call('DEL', binding .. b.key)
  elseif not b.idle then
    redis.call('HSET', binding .. b.key, 'idle', now)
    redis.call('PEXPIRE', binding .. b.key, remember)
  end
end
