-- oust(b, inc): everybody but inc loses the key and is told so by a kick. inc may be nil.
local function oust(b, inc)
  local others = {}
  for other in pairs(b.h) do
    if other ~= inc then others[#others + 1] = other end
  end
  for _, other in ipairs(others) do
    count(b, other, 0)
    if alive(other) or redis.call('ZSCORE', orphans, other) then kick_out(b.key, other) end
  end
end
