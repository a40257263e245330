-- mark: an order: set or clear a key's pin, hold or lock. Marks stand in the key's binding, bound or not, and survive it.
-- ARGV[1] clock  [2] recovery  [3] key  [4] change  [5] value  [6] remember  [7] locker
-- change is pin (value: the backend), unpin, hold (value: ms, or 0 without end), release, lock (value: ms), renew (value: ms)
-- or unlock. locker is empty but for the last three, else a number, a blank and the incarnation that locks.
-- Includes: keys, rare_keys, clock, recall, alive, gather, save, expire, unbind, read, fetch, row, usable, holders
-- Returns {"ok", 0 if a pin's backend may not have users, backend or "", generation, sessions, {holder, sessions, ...},
-- locker or "", ms until the lock ends} | {"recovering", ms}
local given, recovery, key, change, value, remember, locker = unpack(ARGV)
remember = tonumber(remember)
local now = recall(given)
if not now then return { 'recovering', tonumber(recovery) } end

local b, marks = fetch(key, now, remember)
local possible = change ~= 'pin' or usable(row(redis.call('HGET', backends, 'r:' .. value)))

-- Nobody else has it locked, but for one who has neither lease nor grace any more, and so is dead.
local function is_free()
  if not marks.locker or marks.locker == locker then return true end
  local owner = string.match(marks.locker, ' (.*)$')
  return not alive(owner) and not redis.call('ZSCORE', orphans, owner)
end

if change == 'pin' and possible then
  marks.pin = value
elseif change == 'unpin' then
  marks.pin = nil
elseif change == 'hold' then
  marks.hold = value == '0' and 0 or now + value
elseif change == 'release' then
  marks.hold = nil
elseif (change == 'lock' and is_free()) or (change == 'renew' and marks.locker == locker) then
  marks.lock, marks.locker = now + value, locker
elseif change == 'unlock' and marks.locker == locker then
  marks.lock, marks.locker = nil, nil
end

for _, name in ipairs({ 'pin', 'hold', 'lock', 'locker' }) do
  if marks[name] then
    redis.call('HSET', binding .. key, name, marks[name])
  else
    redis.call('HDEL', binding .. key, name)
  end
end
if not b or (b.n == 0 and not b.moving) then expire(key, marks, now, remember) end
return {
  'ok', possible and 1 or 0, b and b.backend or '', b and b.generation or 0, b and b.n or 0, holders(b),
  marks.locker or '', marks.lock and marks.lock - now or 0,
}
