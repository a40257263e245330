-- due(b, now): whether the new home may be opened: no hook is left, and the old home has been empty for long enough.
local function due(b, now)
  local move = b.moving
  return not move.hook and move.not_before and move.not_before <= now
end
