-- place(pool, pin, remembered, avoid, now, factor, slow_start): the backend for a key without a home, or nil. A pin is
-- taken unless it is down or gone. Then, of those that take users and have room, but for the one to avoid: the remembered
-- home while its load is below factor times its fair share of what the pool will have; else the lowest load / share, then
-- whose turn it is, then the name. With one to avoid nothing is remembered.
-- The memory store decides the same: integers, but for the factor and one division, which are the same in every double.
-- Its functions are within it, so that a script that does not place anybody need not make them.
local function place(pool, pin, remembered, avoid, now, factor, slow_start)
  -- A candidate as rank has it, whose share is that after slow_start.
  local function candidate(name, known)
    local share, sessions, its_turn, most, its_pool = string.match(known or '', '^(%d+) (%d+) (%d+) (%d+) (.*)$')
    if its_pool ~= pool or not has_room(tonumber(most), tonumber(sessions)) then return nil end
    return { name = name, share = tonumber(share), load = tonumber(sessions), turn = tonumber(its_turn) }
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

  -- Share while slow_start runs: it grows linearly from 1 % to 100 %.
  local function grown(share, since)
    return share / 100 * math.max(math.floor(math.max(now - since, 0) * 100 / slow_start), 1)
  end

  -- The candidates whose share still grows, by name, with the share that they have now, and how many there may be. No order
  -- of them stays true, so they are judged one by one. all has their full shares and is corrected.
  local function growing_now(all)
    local growing, names = {}, redis.call(
      'ZRANGEBYSCORE', young .. pool, string.format('(%.0f', now - slow_start), '+inf', 'WITHSCORES')
    for i = 1, #names, 2 do
      local name = names[i]
      local known, placed = unpack(redis.call('HMGET', ranks, 'at:' .. name, 'placed:' .. name))
      local one = candidate(name, known)
      if one then
        local share = grown(one.share, names[i + 1])
        all.share = all.share - one.share + share
        one.share, one.turn = share, turn(placed or 0, share)
        growing[name] = one
      end
    end
    return growing, #names / 2
  end

  local function is_below_fair_share(home, all)
    return home.load * all.share < factor * ((all.load + 1) * home.share)
  end

  -- The first of the order that is not passed over.
  local function first_ranked(growing, most_growing)
    for _, member in ipairs(redis.call('ZRANGE', ranked .. pool, 0, most_growing + (avoid and 1 or 0))) do
      local name = string.match(member, '^%d+ (.*)$')
      if name ~= avoid and not growing[name] then return name end
    end
  end

  local function best_of(growing, first)
    local best = first and candidate(first, redis.call('HGET', ranks, 'at:' .. first))
    for name, one in pairs(growing) do
      if name ~= avoid and (not best or is_better(one, best)) then best = one end
    end
    return best and best.name
  end

  if pin ~= '' then return usable(row(redis.call('HGET', backends, 'r:' .. pin))) and pin or nil end
  rank(redis.call('HGET', backends, 'version'))
  local newest, sessions, shares, known = unpack(
    redis.call('HMGET', ranks, 'newest:' .. pool, 'load:' .. pool, 'shares:' .. pool, 'at:' .. (remembered or '')))
  if not newest then return nil end
  local all, growing, most_growing = { load = tonumber(sessions), share = tonumber(shares) }, {}, 0
  if newest ~= '0' and math.max(now - newest, 0) < slow_start then growing, most_growing = growing_now(all) end
  if remembered then
    local home = growing[remembered] or candidate(remembered, known)
    if home and is_below_fair_share(home, all) then return remembered end
  end
  local first = first_ranked(growing, most_growing)
  return next(growing) and best_of(growing, first) or first
end
