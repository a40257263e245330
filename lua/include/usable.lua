-- usable(line): whether users may be at a backend at all.
local function usable(line)
  return line and not line.failing and line.state ~= 'down' and line.state ~= 'removed'
end
