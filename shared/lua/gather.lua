-- What the stages of a job have left, for the stage that ends it.
--
-- ARGV  1 prefix  2 id of the job
-- Gives {now (ms), {task, result, created, started, finished} of each stage in the order of their making; what is missing is nil}
local found = {NOW}
for _, stage in ipairs(redis.call('LRANGE', P .. 'stages:' .. ARGV[2], 0, -1)) do
  found[#found + 1] = redis.call('HMGET', key_of(stage), 'task', 'result', 'created', 'started', 'finished')
end
return found
