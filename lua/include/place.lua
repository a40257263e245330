-- place(pool, pin, remembered, avoid, now, factor, slow_start): the backend for a key without a home, or nil. A pin is
-- taken unless it is down or gone; then, of those with room and but for the one to avoid, the remembered home while its load is below factor times its fair share of what the
-- pool will have; else the lowest (load + 1) / share. One pass; all in integers but the factor, so that the memory store,
-- which does the same, decides the same.

-- Weight times percent: it grows linearly from 1 % to 100 % while slow_start runs.
local function share_of(line, now, slow_start)
  local age = math.max(now - line.since, 0)
  if line.since == 0 or age >= slow_start then return line.weight * 100 end
  return line.weight * math.max(math.floor(age * 100 / slow_start), 1)
end

-- Byte by byte: Lua's own comparison follows the server's locale.
local function sorts_before(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- The fields of a hash of sums.
local function sums_in(hash)
  local sums, fields = {}, redis.call('HGETALL', hash)
  for i = 1, #fields, 2 do sums[fields[i]] = tonumber(fields[i + 1]) end
  return sums
end

local users_at -- read once, and only if two are equally loaded

-- Fewer (sessions + 1) per share, then fewer users, then the name.
local function is_better(a, b)
  local mine, theirs = (a.load + 1) * b.share, (b.load + 1) * a.share
  if mine ~= theirs then return mine < theirs end
  users_at = users_at or sums_in(users)
  local x, y = users_at[a.name] or 0, users_at[b.name] or 0
  if x ~= y then return x < y end
  return sorts_before(a.name, b.name)
end

local function place(pool, pin, remembered, avoid, now, factor, slow_start)
  if pin ~= '' then
    local line = row(redis.call('HGET', backends, 'r:' .. pin))
    return usable(line) and pin or nil
  end
  local loads = sums_in(load)
  local best, home, all_load, all_shares = nil, nil, 0, 0
  local rows = redis.call('HGETALL', backends)
  for i = 1, #rows, 2 do
    local line = rows[i] ~= 'version' and row(rows[i + 1])
    local name = string.sub(rows[i], 3)
    local takes_users = line and line.pool == pool and line.state == 'up' and not line.failing and line.weight > 0
    if takes_users and name ~= avoid and (line.most == 0 or (loads[name] or 0) < line.most) then
      local one = { name = name, share = share_of(line, now, slow_start), load = loads[name] or 0 }
      all_load, all_shares = all_load + one.load, all_shares + one.share
      if name == remembered then home = one end
      if not best or is_better(one, best) then best = one end
    end
  end
  if home and home.load * all_shares < factor * ((all_load + 1) * home.share) then return home.name end
  return best and best.name
end
