-- A worker leaves before it has finished an attempt: the record goes back to be served next; the attempt does not count.
--
-- ARGV  1 prefix  2 id  3 fence
-- Gives 1 when it went back, 0 when the record is no longer this attempt's
local id = ARGV[2]
local job = key_of(id)
local r = redis.call('HMGET', job, 'state', 'fence')
if r[1] ~= 'running' or r[2] ~= ARGV[3] then return 0 end
if TERMINAL[redis.call('HGET', key_of(root_of(id)), 'state') or 'done'] then return 0 end
redis.call('HSET', job, 'state', 'queued')
redis.call('HINCRBY', job, 'attempts', -1)
push(id, true)
return 1
