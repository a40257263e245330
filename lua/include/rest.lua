-- rest(b, now, remember, kick_delay): after the last change of a binding, saves it. Without sessions it is idle from now
-- on, or is forgotten if its login was never proven. A move goes on when the old home is empty.
local function rest(b, now, remember, kick_delay)
  local was_idle = b.idle
  if b.n > 0 then
    if was_idle then put(b, 'idle', nil) end
    b.idle = nil
  elseif b.unproven and not b.moving then
    return unbind(b, now, remember)
  elseif not was_idle then
    put(b, 'idle', now)
    b.idle = now
  end
  if b.moving then attend(b, now, kick_delay) end
  save(b)
  if was_idle and not b.idle then
    redis.call('PERSIST', b.name)
  elseif b.idle and not was_idle and not b.moving then
    expire(b.key, b.marks, now, remember)
  end
end
