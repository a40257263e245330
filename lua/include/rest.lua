-- rest(b, now, remember, kick_delay): after the last change of a binding, saves it. Without sessions it is idle from now
-- on, or is forgotten if its login was never proven. A move goes on when the old home is empty.
local function rest(b, now, remember, kick_delay)
  if b.n > 0 then
    if b.moving then attend(b, now, kick_delay) end
    return wake(b)
  end
  if b.unproven and not b.moving then return unbind(b, now, remember) end
  local was_idle = b.idle
  if not was_idle then
    put(b, 'idle', now)
    b.idle = now
  end
  if b.moving then attend(b, now, kick_delay) end
  save(b)
  if not was_idle and not b.moving then expire(b.key, b.marks, now, remember) end
end
