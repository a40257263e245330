-- attend(b, now, kick_delay): b is being moved and its counts may have changed. Notes whether the old home is empty, and
-- when somebody should look after the move: at its deadline while it is not.
local function attend(b, now, kick_delay)
  local move, at = b.moving, nil
  if b.n > 0 then
    if move.not_before then put(b, 'not_before', nil) end
    move.not_before, at = nil, move.deadline
  else
    if not move.not_before then
      move.not_before = now + kick_delay
      put(b, 'not_before', move.not_before)
    end
    at = move.hook and (hook(move) or now) or move.not_before
  end
  redis.call('ZADD', moving, at, b.key)
end
