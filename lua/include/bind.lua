-- bind(b, key, backend, generation, unproven, marks): gives a key that nobody holds a (new) home. b is its binding, or nil.
local function bind(b, key, backend, generation, unproven, marks)
  if not b then
    b = { key = key, n = 0, h = {}, marks = marks }
    if next(marks) then redis.call('PERSIST', binding .. key) end
  end
  redis.call('HSET', binding .. key, 'be', backend, 'gen', generation)
  b.backend, b.generation = backend, generation
  if unproven and not b.unproven then redis.call('HSET', binding .. key, 'unproven', 1) end
  b.unproven = b.unproven or unproven
  return b
end
