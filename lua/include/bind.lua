-- bind(b, key, backend, generation, unproven): gives a key that nobody holds a (new) home. b is its binding, or nil.
local function bind(b, key, backend, generation, unproven)
  b = b or new(key, binding .. key, backend, generation, 0, {})
  put(b, 'be', backend)
  put(b, 'gen', generation)
  b.backend, b.generation = backend, generation
  if unproven and not b.unproven then put(b, 'unproven', 1) end
  b.unproven = b.unproven or unproven
  return b
end
