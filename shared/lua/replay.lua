-- Take a dead letter back into its queue as a new job of the same id; all or nothing.
--
-- ARGV  1 prefix  2 entry  3 id  4 task  5 queue  6 priority  7 tenant  8 max_attempts  9 message (JSON, validated)
-- Gives 'ok' | 'gone' (no such entry) | 'open' (a job of this id is under way)
local entry, id = ARGV[2], ARGV[3]
local state = redis.call('HGET', key_of(id), 'state')
if state and not TERMINAL[state] then return 'open' end
if #redis.call('XRANGE', P .. 'dead', entry, entry) == 0 then return 'gone' end
-- Redis refuses this write when its memory is full, but none of those that delete: it must come before them.
redis.call('HSET', key_of(id), 'state', 'done')
redis.call('XDEL', P .. 'dead', entry)
for _, stage in ipairs(redis.call('LRANGE', P .. 'stages:' .. id, 0, -1)) do
  if redis.call('EXISTS', key_of(stage)) == 1 then
    unlist(stage)
    redis.call('ZREM', P .. 'open', stage)
    redis.call('DEL', key_of(stage))
  end
end
redis.call('DEL', key_of(id), P .. 'events:' .. id, P .. 'stages:' .. id, 'celery-task-meta-' .. id)
begin(id, ARGV[4], ARGV[5], ARGV[6], ARGV[7], id, ARGV[8], NOW + config('deadline_ms'), 0, ARGV[9])
return 'ok'
