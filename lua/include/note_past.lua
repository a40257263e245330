-- note_past(b, till, why, remember): writes the present home into the key's history, the latest first: it ends with the
-- generation till. At most 10 are kept.
local function note_past(b, till, why, remember)
  local since = b.moving and b.moving.began or b.generation
  redis.call('LPUSH', past .. b.key, string.format('%.0f %.0f ', since, till) .. why .. ' ' .. b.backend)
  redis.call('LTRIM', past .. b.key, 0, 9)
  redis.call('PEXPIRE', past .. b.key, remember)
end
