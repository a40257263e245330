-- cancel(b, now, remember): gives a move up. Whoever has not closed its sessions yet may keep them.
local function cancel(b, now, remember)
  halt(b)
  for holder in pairs(b.h) do redis.call('SREM', kicks .. holder, b.key) end
  if b.n == 0 then expire(b.key, b.marks, now, remember) end
end
