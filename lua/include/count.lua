-- count(b, inc, sessions): rule 1. inc holds so many sessions of the key bound by b; every sum follows.
local function count(b, inc, sessions)
  local before, all = b.h[inc] or 0, b.n
  enlist(inc, b.key, sessions > 0)
  if sessions == before then return end
  b.n = math.max(all - before, 0) + sessions
  if sessions > 0 then
    b.h[inc] = sessions
    redis.call('HSET', binding .. b.key, 'h:' .. inc, sessions, 'n', b.n)
  else
    b.h[inc] = nil
    redis.call('HDEL', binding .. b.key, 'h:' .. inc)
    redis.call('HSET', binding .. b.key, 'n', b.n)
  end
  if (all > 0) ~= (b.n > 0) then add(users, b.backend, b.n > 0 and 1 or -1) end
  if alive(inc) then
    add(proxy .. inc, 'l:' .. b.backend, sessions - before)
    add(load, b.backend, sessions - before)
  elseif redis.call('EXISTS', proxy .. inc) == 1 then
    add(proxy .. inc, 'l:' .. b.backend, sessions - before)
  end
end
