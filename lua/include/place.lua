-- place(pool, pin, remembered, now, factor, slow_start): the backend for a key without a home, or nil. A pin is taken
-- unless it is down or gone; then the remembered home while its load is below factor times its fair share of what the
-- pool will have; else the lowest load / share, then whose turn it is, then the name.
-- The memory store decides the same: integers, but for the factor and one division, which are the same in every double.
-- Its functions are within it, so that a script that does not place anybody need not make them.
local function place(pool, pin, remembered, now, factor, slow_start)
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

  local function is_better(a, b)
    local mine, theirs = a.load / a.share, b.load / b.share
    if mine ~= theirs then return mine < theirs end
    if a.turn ~= b.turn then return a.turn < b.turn end
    return sorts_before(a.name, b.name)
  end

  local function is_below_fair_share(home, all, factor)
    return home.load * all.share < factor * ((all.load + 1) * home.share)
  end

  -- While a share grows with time, no order of the backends stays true: looks at each of them.
  local function place_by_looking_at_all(pool, remembered, now, factor, slow_start)
    local loads, known = fields(load), fields(ranks)
    local best, home, all = nil, nil, { load = 0, share = 0 }
    for field, text in pairs(fields(backends)) do
      local line = field ~= 'version' and row(text)
      if line and line.pool == pool and line.state == 'up' and line.weight > 0 then
        local one = { name = string.sub(field, 3), share = share_of(line, now, slow_start) }
        one.load, one.turn = tonumber(loads[one.name] or 0), turn(known['placed:' .. one.name] or 0, one.share)
        all.load, all.share = all.load + one.load, all.share + one.share
        if one.name == remembered then home = one end
        if not best or is_better(one, best) then best = one end
      end
    end
    if home and is_below_fair_share(home, all, factor) then return home.name end
    return best.name
  end

  local function place_by_rank(pool, remembered, known, all, factor)
    local share, sessions, its_pool = string.match(known or '', '^(%d+) (%d+) %d+ (.*)$')
    local home = its_pool == pool and { load = tonumber(sessions), share = tonumber(share) }
    if home and is_below_fair_share(home, all, factor) then return remembered end
    local _, name = string.match(redis.call('ZRANGE', ranked .. pool, 0, 0)[1], '^(%d+) (.*)$')
    return name
  end

  if pin ~= '' then
    local line = row(redis.call('HGET', backends, 'r:' .. pin))
    if line and line.state ~= 'down' then return pin end
    return nil
  end
  rank(redis.call('HGET', backends, 'version'))
  local asked = { 'pool:' .. pool, 'load:' .. pool, 'at:' .. (remembered or '') }
  local sums, sessions, known = unpack(redis.call('HMGET', ranks, unpack(asked)))
  if not sums then return nil end
  local shares, newest = string.match(sums, '^(%d+) (%d+)$')
  local all, chosen = { load = tonumber(sessions), share = tonumber(shares) }, nil
  if newest ~= '0' and math.max(now - newest, 0) < slow_start then
    chosen = place_by_looking_at_all(pool, remembered, now, factor, slow_start)
  else
    chosen = place_by_rank(pool, remembered, known, all, factor)
  end
  redis.call('HINCRBY', ranks, 'placed:' .. chosen, 1)
  return chosen
end
