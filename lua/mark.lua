-- mark: an order: set or clear a key's pin or hold. Marks stand in the key's binding, bound or not, and survive it.
-- ARGV[1] clock  [2] recovery  [3] key  [4] change  [5] value  [6] remember
-- change is pin (value: the backend), unpin, hold (value: ms, or 0 without end) or release.
-- Includes: keys, rare_keys, clock, recall, gather, save, expire, unbind, read, fetch, row, usable, holders
-- Returns {"ok", 0 if a pin's backend may not have users, backend or "", generation, sessions, {holder, sessions, ...}}
-- | {"recovering", ms}
local given, recovery, key, change, value, remember = unpack(ARGV)
remember = tonumber(remember)
local now = recall(given)
if not now then return { 'recovering', tonumber(recovery) } end

local b, marks = fetch(key, now, remember)
local possible = change ~= 'pin' or usable(row(redis.call('HGET', backends, 'r:' .. value)))
if change == 'pin' and possible then
  marks.pin = value
elseif change == 'unpin' then
  marks.pin = nil
elseif change == 'hold' then
  marks.hold = value == '0' and 0 or now + value
elseif change == 'release' then
  marks.hold = nil
end

for _, name in ipairs({ 'pin', 'hold' }) do
  if marks[name] then
    redis.call('HSET', binding .. key, name, marks[name])
  else
    redis.call('HDEL', binding .. key, name)
  end
end
if not b or (b.n == 0 and not b.moving) then expire(key, marks, now, remember) end
return { 'ok', possible and 1 or 0, b and b.backend or '', b and b.generation or 0, b and b.n or 0, holders(b) }
