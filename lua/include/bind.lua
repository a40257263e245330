-- bind(b, key, backend, generation, unproven, marks): gives a key that nobody holds a (new) home. b is its binding, or nil.
local function bind(b, key, backend, generation, unproven, marks)
  if not b then
    b = new(key, binding .. key, marks, backend, generation, 0, {})
    if next(marks) then redis.call('PERSIST', b.name) end
  end
  put(b, 'be', backend)
  put(b, 'gen', generation)
  b.backend, b.generation = backend, generation
  if unproven and not b.unproven then put(b, 'unproven', 1) end
  b.unproven = b.unproven or unproven
  return b
end
