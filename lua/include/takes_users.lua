-- takes_users(line): whether users are placed at a backend anew.
local function takes_users(line)
  return line.state == 'up' and not line.failing and line.weight > 0
end
