-- in_force(): the backend table: its version, its lines by name, and name and text of each line in a list.
local function in_force()
  local fields, version, lines, list = redis.call('HGETALL', backends), 0, {}, {}
  for i = 1, #fields, 2 do
    if fields[i] == 'version' then
      version = tonumber(fields[i + 1])
    elseif fields[i] ~= '' then
      local name = string.sub(fields[i], 3)
      lines[name] = row(fields[i + 1])
      list[#list + 1] = name
      list[#list + 1] = fields[i + 1]
    end
  end
  return version, lines, list
end
