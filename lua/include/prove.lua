-- prove(b): the user exists, so the binding is to be remembered.
local function prove(b)
  if b.unproven then
    put(b, 'unproven', nil)
    b.unproven = nil
  end
end
