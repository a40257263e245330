-- place(pool, pin, remembered, avoid, now, factor, slow_start): the backend for a key without a home, or nil. A pin is
-- taken unless it is down or gone. Then, of those that take users and have room, but for the one to avoid: the remembered
-- home while its load is below factor times its fair share of what the pool will have; else the lowest load / share, then
-- whose turn it is, then the name. With one to avoid nothing is remembered.
-- The memory store decides the same: integers, but for the factor and one division, which are the same in every double.
-- Its functions are within it, so that a script that does not place anybody need not make them.
local function place(pool, pin, remembered, avoid, now, factor, slow_start)
  -- Weight times percent: it grows linearly from 1 % to 100 % while slow_start runs.
  local function share_of(line)
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

  local function is_better(a, b)
    local mine, theirs = a.load / a.share, b.load / b.share
    if mine ~= theirs then return mine < theirs end
    if a.turn ~= b.turn then return a.turn < b.turn end
    return sorts_before(a.name, b.name)
  end

  local function is_below_fair_share(home, all)
    return home.load * all.share < factor * ((all.load + 1) * home.share)
  end

  -- While a share grows with time, no order of the backends stays true: looks at each of them.
  local function place_by_looking_at_all()
    local loads, known = fields(load), fields(ranks)
    local best, home, all = nil, nil, { load = 0, share = 0 }
    for field, text in pairs(fields(backends)) do
      local line, name = field ~= 'version' and row(text), string.sub(field, 3)
      local sessions = tonumber(loads[name] or 0)
      if line and line.pool == pool and name ~= avoid and takes_users(line) and has_room(line.most, sessions) then
        local one = { name = name, share = share_of(line), load = sessions }
        one.turn = turn(known['placed:' .. name] or 0, one.share)
        all.load, all.share = all.load + sessions, all.share + one.share
        if name == remembered then home = one end
        if not best or is_better(one, best) then best = one end
      end
    end
    if home and is_below_fair_share(home, all) then return remembered end
    return best and best.name
  end

  local function place_by_rank(known, all)
    local share, sessions, most, its_pool = string.match(known or '', '^(%d+) (%d+) %d+ (%d+) (.*)$')
    if its_pool == pool and has_room(tonumber(most), tonumber(sessions)) then
      local home = { load = tonumber(sessions), share = tonumber(share) }
      if is_below_fair_share(home, all) then return remembered end
    end
    for _, member in ipairs(redis.call('ZRANGE', ranked .. pool, 0, avoid and 1 or 0)) do
      local name = string.match(member, '^%d+ (.*)$')
      if name ~= avoid then return name end
    end
  end

  if pin ~= '' then return usable(row(redis.call('HGET', backends, 'r:' .. pin))) and pin or nil end
  rank(redis.call('HGET', backends, 'version'))
  local asked = { 'newest:' .. pool, 'load:' .. pool, 'shares:' .. pool, 'at:' .. (remembered or '') }
  local newest, sessions, shares, known = unpack(redis.call('HMGET', ranks, unpack(asked)))
  if not newest then return nil end
  if newest ~= '0' and math.max(now - newest, 0) < slow_start then return place_by_looking_at_all() end
  return place_by_rank(remembered and known, { load = tonumber(sessions), share = tonumber(shares) })
end
