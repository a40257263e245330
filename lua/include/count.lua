-- count(b, inc, sessions): rule 1. inc holds so many sessions of the key bound by b; every sum follows.
local function count(b, inc, sessions)
  local before, all = b.h[inc] or 0, b.n
  if before == 0 or sessions == 0 then enlist(inc, b.key, sessions > 0) end
  if sessions == before then return end
  b.n = (all > before and all - before or 0) + sessions
  b.h[inc] = sessions > 0 and sessions or nil
  put(b, 'h:' .. inc, b.h[inc])
  put(b, 'n', b.n)
  if (all > 0) ~= (b.n > 0) then add(users, b.backend, b.n > 0 and 1 or -1) end
  if alive(inc) then
    add(proxy .. inc, 'l:' .. b.backend, sessions - before)
    add(load, b.backend, sessions - before)
  elseif redis.call('EXISTS', proxy .. inc) == 1 then
    add(proxy .. inc, 'l:' .. b.backend, sessions - before)
  end
end
