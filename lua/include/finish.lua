-- finish(b, pool, now, remember, slow_start): ends a move whose old home is empty: opens the new one, or gives up if no
-- backend can take the key. Returns whether it is open.
local function finish(b, pool, now, remember, slow_start)
  local to = b.moving.to
  local backend = heading(to, b.backend, pool, now, slow_start)
  if not backend then
    cancel(b, now, remember)
    return false
  end
  move_in(b, to, backend, now, remember)
  return true
end
