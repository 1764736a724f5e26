-- What a running attempt does to the world, all at once and only while its fence is valid: renew the lease, emit events,
-- create further stages, append to short-term memory, finish.
--
-- ARGV  1 prefix  2 id  3 fence  4 end: '' | 'done' (this attempt is over) | 'wait' (over; the job goes on in its stages)
--       5 result (JSON, '' unless done): of this stage, for the stages behind it, or of the job
--       6 Celery's result as JSON up to the place of that result, the object's last member; '' unless this ends the job
--       7 with 'wait': the stage that ends the job, created once no other stage is open: JSON {id, task, queue, env}; else ''
--       8 checkpoint: what a later attempt may go on from ('' for unchanged)
--       9 number of this report, counted by the attempt; one that was applied before changes nothing more. 0: a mere heartbeat
--       then n events:  n, (type, data)*
--       then n stages:  n, (id, task, queue, max_attempts, message)*
--       then n appends: n, (list, value, keep at most, ttl in s)*
-- Gives 'ok' | 'lost' | 'ended' | 'deadline' | 'gone'
local id, fence, ending = ARGV[2], ARGV[3], ARGV[4]
local job = key_of(id)
local r = redis.call('HMGET', job, 'state', 'fence', 'deadline', 'task', 'priority', 'tenant', 'reports', 'presence', 'listed',
  'parked', 'pending', 'seq')
local root = root_of(id)
if r[2] ~= fence then return 'lost' end
if r[1] ~= 'running' then
  if ending ~= '' and (r[1] == 'done' or r[1] == 'waiting') then return 'ok' end      -- the same call once more
  if r[1] == 'cancelled' then return 'ended' end
  return 'lost'
end
local why = obstacle(id, root, r[3], r[8])
if why then
  drop(id, root, r[4], why)
  return why
end

local function heartbeat()
  local lease = NOW + config('lease_ms')
  redis.call('HSET', job, 'lease', lease)
  redis.call('ZADD', P .. 'open', lease, id)
  return 'ok'
end

local number = tonumber(ARGV[9])
if number > 0 then
  if number <= tonumber(r[7]) then return heartbeat() end
  if ending ~= 'done' then redis.call('HSET', job, 'reports', number) end      -- of an ended record nobody asks for it
end

local at = 10
local function take() at = at + 1; return ARGV[at - 1] end

if ARGV[8] ~= '' then redis.call('HSET', job, 'checkpoint', ARGV[8]) end

local events = tonumber(take())
for _ = 1, events do
  local kind, data = take(), take()
  emit(root, kind, data)
end

local top, has_stages = key_of(root), r[11]
for _ = 1, tonumber(take()) do
  local stage, task, queue, max_attempts, env = take(), take(), take(), take(), take()
  if redis.call('EXISTS', key_of(stage)) == 0 then
    has_stages = true
    begin(stage, task, queue, r[5], r[6], root, max_attempts, r[3], 0, env)
    redis.call('HINCRBY', top, 'pending', '1')
    redis.call('RPUSH', P .. 'stages:' .. root, stage)
    redis.call('EXPIRE', P .. 'stages:' .. root, config('open_ttl_s'))
  end
end

for _ = 1, tonumber(take()) do
  local list, value, keep, ttl = take(), take(), tonumber(take()), take()
  redis.call('RPUSH', list, value)
  redis.call('LTRIM', list, -keep, '-1')
  redis.call('EXPIRE', list, ttl)
end

if ending == '' then return heartbeat() end

-- No stage is open: the one that ends the job begins. A job that is not waiting yet comes here once it is.
local function begin_last()
  local job = redis.call('HMGET', top, 'state', 'pending', 'last', 'last_task', 'last_queue', 'last_env')
  if job[1] ~= 'waiting' or tonumber(job[2] or 0) > 0 then return end
  if root_of(job[3]) ~= root then return end
  begin(job[3], job[4], job[5], r[5], r[6], root, 3, r[3], 0, job[6])
  redis.call('HINCRBY', top, 'pending', '1')
  redis.call('RPUSH', P .. 'stages:' .. root, job[3])
  redis.call('EXPIRE', P .. 'stages:' .. root, config('open_ttl_s'))
end

if ending == 'wait' then
  local last = cjson.decode(ARGV[7])
  redis.call('HSET', job, 'last', last.id, 'last_task', last.task, 'last_queue', last.queue, 'last_env', last.env,
    'state', 'waiting')
  redis.call('ZADD', P .. 'open', r[3], id)
  begin_last()
  return 'ok'
end

local known = {listed = r[9], parked = r[10], presence = r[8], stages = has_stages, seq = (r[12] or 0) + events}
if root == id or ARGV[6] ~= '' then      -- the job's own result is in its last event and where Celery looks, not here as well
  if root ~= id then close_record(id, 'done', known) end
  local result = ARGV[5] ~= '' and ARGV[5] or 'null'
  end_job(root, 'done', 'done', '{"result":' .. result .. '}', ARGV[6] .. result .. '}', root == id and known or nil)
  return 'ok'
end

close_record(id, 'done', known, 'result', ARGV[5])
redis.call('HINCRBY', top, 'pending', '-1')
begin_last()
return 'ok'
