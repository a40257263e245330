-- rank(version): brings the order in which backends are taken up to date, so that place need not look at each of them: all
-- of it if the table has changed, else for those whose load or turn has changed since (stale).
-- rank:<pool> has the score load / share and the members "turn name", so its first is the one to take: a backend that is
-- full is not in it, nor in the sums. young:<pool> says since when each is as it is. ranks knows of each backend what was
-- ranked, of each pool the sums, and how often each was chosen. Shares are those after slow_start.

-- Its functions are within it, so that a script that does not place anybody need not make them.
local function rank(version)
  local function member(its_turn, name)
    return string.format('%016.0f ', its_turn) .. name
  end

  local function what_was_ranked(share, sessions, its_turn, most, pool)
    return string.format('%.0f %.0f %.0f %.0f %s', share, sessions, its_turn, most, pool)
  end

  local function rank_all()
    for field in pairs(fields(ranks)) do
      if string.sub(field, 1, 7) == 'newest:' then
        local pool = string.sub(field, 8)
        redis.call('DEL', ranked .. pool, young .. pool)
      end
    end
    redis.call('DEL', ranks, stale)
    redis.call('HSET', ranks, 'version', version)
    wide(ranks)
    local loads, pools = fields(load), {}
    for field, text in pairs(fields(backends)) do
      local line = field ~= 'version' and row(text)
      if line and takes_users(line) then
        local name, share = string.sub(field, 3), line.weight * 100
        local sessions, first = tonumber(loads[name] or 0), turn(0, share)
        local sums = pools[line.pool] or { shares = 0, load = 0, newest = 0 }
        pools[line.pool] = sums
        sums.newest = math.max(sums.newest, line.since)
        if has_room(line.most, sessions) then
          sums.shares, sums.load = sums.shares + share, sums.load + sessions
          redis.call('ZADD', ranked .. line.pool, sessions / share, member(first, name))
        end
        if line.since ~= 0 then redis.call('ZADD', young .. line.pool, line.since, name) end
        redis.call('HSET', ranks, 'at:' .. name, what_was_ranked(share, sessions, first, line.most, line.pool))
      end
    end
    for pool, sums in pairs(pools) do
      redis.call('HSET', ranks, 'newest:' .. pool, sums.newest, 'load:' .. pool, sums.load, 'shares:' .. pool, sums.shares)
    end
  end

  -- Notes in changes that a backend is no longer where it was ranked, but where it is now; either if it had, or has, room.
  local function move_rank(changes, name, share, from, to, most)
    if has_room(most, from.load) then
      changes.gone[#changes.gone + 1] = member(from.turn, name)
      changes.load, changes.shares = changes.load - from.load, changes.shares - share
    end
    if has_room(most, to.load) then
      changes.there[#changes.there + 1] = to.load / share
      changes.there[#changes.there + 1] = member(to.turn, name)
      changes.load, changes.shares = changes.load + to.load, changes.shares + share
    end
  end

  local function rank_again(names)
    local asked, entries, pools = {}, {}, {}
    for i, name in ipairs(names) do asked[2 * i - 1], asked[2 * i] = 'at:' .. name, 'placed:' .. name end
    local known, loads = redis.call('HMGET', ranks, unpack(asked)), redis.call('HMGET', load, unpack(names))
    for i, name in ipairs(names) do
      local share, before, old, most, pool = string.match(known[2 * i - 1] or '', '^(%d+) (%d+) (%d+) (%d+) (.*)$')
      if share then
        share, most = tonumber(share), tonumber(most)
        local from = { load = tonumber(before), turn = old }
        local to = { load = tonumber(loads[i] or 0), turn = turn(known[2 * i] or 0, share) }
        local changes = pools[pool] or { gone = {}, there = {}, load = 0, shares = 0 }
        pools[pool] = changes
        move_rank(changes, name, share, from, to, most)
        entries[#entries + 1] = 'at:' .. name
        entries[#entries + 1] = what_was_ranked(share, to.load, to.turn, most, pool)
      end
    end
    for pool, changes in pairs(pools) do
      if #changes.gone > 0 then redis.call('ZREM', ranked .. pool, unpack(changes.gone)) end
      if #changes.there > 0 then redis.call('ZADD', ranked .. pool, unpack(changes.there)) end
      redis.call('HINCRBY', ranks, 'load:' .. pool, changes.load)
      if changes.shares ~= 0 then redis.call('HINCRBY', ranks, 'shares:' .. pool, changes.shares) end
    end
    if #entries > 0 then redis.call('HSET', ranks, unpack(entries)) end
    redis.call('DEL', stale)
  end

  if redis.call('HGET', ranks, 'version') ~= version then return rank_all() end
  local names = redis.call('SMEMBERS', stale)
  if #names > 0 then rank_again(names) end
end
