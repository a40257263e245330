-- rest(b, now, remember): after the last change of a binding, saves it. Without sessions it is idle from now on, or is
-- forgotten if its login was never proven.
local function rest(b, now, remember)
  if b.n > 0 then
    local was_idle = b.idle
    if was_idle then put(b, 'idle', nil) end
    save(b)
    if was_idle then redis.call('PERSIST', b.name) end
  elseif b.unproven then
    drop(b)
  elseif not b.idle then
    put(b, 'idle', now)
    save(b)
    redis.call('PEXPIRE', b.name, remember)
  else
    save(b)
  end
end
