-- replace(based_on, from, now): replaces the table by what ARGV says from there on, if it is still the version that the
-- new one was made from. Returns what is to be answered. Whether a backend fails is for the votes to say, so a line that
-- the table has keeps that. A store without a table takes lines as they are given, for it may merely have forgotten them.
local function replace(based_on, from, now)
  local version, was, list = in_force()
  if version ~= based_on then return { 'late', version, list } end
  version = math.max(based_on + 1, now)
  install(version, was, from, based_on > 0 and function(name, line)
    line.failing = was[name] ~= nil and was[name].failing
    continue(line, was[name], version)
  end)
  return { 'ok', version }
end
