-- A worker leaves without having begun what it popped: the message goes back to the place where it is served next.
--
-- ARGV  1 prefix  2 id
-- Gives 1 when it went back, 0 when the record does not need it
local r = redis.call('HMGET', key_of(ARGV[2]), 'state', 'queue', 'priority', 'env')
if r[1] ~= 'queued' then return 0 end
redis.call('RPUSH', list_of(r[2], r[3]), r[4])
return 1
