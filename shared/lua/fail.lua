-- An attempt failed: try again later, or end the job.
--
-- ARGV  1 prefix  2 id  3 fence  4 fault (JSON)  5 ms to wait before the next attempt, -1: no further attempt
-- Gives 'retry' | 'failed' | 'lost' (somebody else has the record, or its job has ended)
local id, fence, fault, delay = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local job = key_of(id)
local r = redis.call('HMGET', job, 'state', 'fence', 'deadline', 'attempts', 'max_attempts', 'task')
local root = root_of(id)
if r[1] ~= 'running' or r[2] ~= fence then return 'lost' end
if root ~= id and TERMINAL[redis.call('HGET', key_of(root), 'state') or 'done'] then
  close_record(id, 'cancelled')
  return 'lost'
end

if delay >= 0 and tonumber(r[4]) < tonumber(r[5]) and NOW + delay < tonumber(r[3]) then
  redis.call('HSET', job, 'state', 'delayed')
  redis.call('ZADD', P .. 'open', NOW + delay, id)
  emit(root, 'retrying', '{"fault":' .. fault .. ',"delay_ms":' .. delay .. '}')
  return 'retry'
end
if delay >= 0 then bury_job(root, r[6] .. ': ' .. cjson.decode(fault).message) end
if root ~= id then close_record(id, 'failed') end
fail_job(root, fault)
return 'failed'
