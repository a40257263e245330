-- wide(hash): makes Redis find the fields of a hash by hashing their names. Else it looks through a hash of up to 512 short
-- fields from its front, which costs 2 us and more where there is a field for each of 200 backends. One value of more than
-- 64 bytes is what makes it do so, as long as it is there: it stands under the name that is empty.
local function wide(hash)
  redis.call('HSET', hash, '', string.rep('-', 65))
end
