-- End a job because its caller asks for it. What runs of it is told by the channel and stops at its next step.
--
-- ARGV  1 prefix  2 id
-- Gives 'cancelled' | the state in which it had ended | 'unknown'
local id = ARGV[2]
local r = redis.call('HMGET', key_of(id), 'state', 'task')
if not r[1] or root_of(id) ~= id then return 'unknown' end
if TERMINAL[r[1]] then return r[1] end
fail_job(id, fault_json('cancelled', 'The job was cancelled.', r[2]))
redis.call('PUBLISH', P .. 'cancel', id)
return 'cancelled'
