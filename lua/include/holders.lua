-- holders(b): who has how many sessions of a key, in a list.
local function holders(b)
  local list = {}
  for holder, sessions in pairs(b and b.h or {}) do
    list[#list + 1] = holder
    list[#list + 1] = sessions
  end
  return list
end
