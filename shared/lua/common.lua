-- Joined in front of every script. ARGV[1] is always the key prefix.
--
-- <prefix>job:<id>        hash    the record; the truth about a job or a stage of one
--   task queue tenant priority(0|9) root max_attempts deadline(ms) presence(0|1) env(the message; '' once it has ended)
--   state    queued | delayed | running | waiting | done | failed | cancelled
--   listed   1 while its message counts towards the tenant's share of the shared list
--   parked   1 while it waits behind its tenant
--   fence    of the last claim; starts at the time of creation, so that no claim of an earlier life of this id is valid
--   reports  number of the last report of this fence; the same report once more changes nothing
--   lost     deliveries in a row that nobody began
--   attempts lease(ms) owner pushed created started finished (ms)
--   seq      last event (roots);  pending  open stages (roots);  last  id of the stage that ends the job (roots)
--   result   JSON (stages);  fault  JSON
-- <prefix>stages:<id>     list    ids of a job's stages, in the order of their making
-- <prefix>events:<id>     stream  ids are <seq>-0; fields type, at, data
-- <prefix>open            zset    unfinished records by the time at which the reconciler must look
-- <queue>, <queue>:9      list    messages; LPUSH at one end, Celery pops at the other
-- <prefix>parked:<queue>:<priority>:<tenant>  list   ids behind their tenant's share
-- <prefix>shares:<queue>  hash    <priority>:<tenant> -> messages in the shared list; parked -> ids parked in all
-- <prefix>pace:<queue>    hash    at, every: last claim and smoothed ms between claims
-- <prefix>config          hash    limits; see `config` for what holds where it is missing

local P = ARGV[1]
local TERMINAL = {done = true, failed = true, cancelled = true}
local clock = redis.call('TIME')
local NOW = clock[1] * 1000 + math.floor(clock[2] / 1000)
local AT = string.format('%.0f', NOW)      -- to be written: Redis takes its time over a number

local limits
local function config(name)
  if not limits then      -- one read serves the whole script
    local found = redis.call('HMGET', P .. 'config', 'share', 'queue_limit', 'tenant_limit', 'lease_ms', 'redeliver_ms',
      'job_ttl_s', 'events_ttl_s', 'open_ttl_s', 'deadline_ms', 'presence_ttl_s', 'dead_limit', 'events_limit')
    limits = {
      share = found[1] or 1, queue_limit = found[2] or 10000, tenant_limit = found[3] or 5000, lease_ms = found[4] or 6000,
      redeliver_ms = found[5] or 5000, job_ttl_s = found[6] or 86400, events_ttl_s = found[7] or 3600,
      open_ttl_s = found[8] or 604800, deadline_ms = found[9] or 900000, presence_ttl_s = found[10] or 15,
      dead_limit = found[11] or 10000, events_limit = found[12] or 20000,
    }
  end
  return tonumber(limits[name])
end

local function key_of(id) return P .. 'job:' .. id end

-- The job that a stage belongs to. Its record says so too, but who may write to some records must not lead to others.
local function root_of(id) return string.match(id, '^[^/]*') end

-- Names are checked here, because they come from records and whoever may write to some records must not push to other keys.
local function list_of(queue, priority)
  assert(string.find(queue, '^%l+$') and (priority == '0' or priority == '9'), 'no queue of that name')
  if priority == '0' then return queue end
  return queue .. ':' .. priority
end

-- The id of the job that a message carries, or nil.
local function id_of(raw)
  local ok, message = pcall(cjson.decode, raw)
  if ok and type(message) == 'table' and type(message.headers) == 'table' and type(message.headers.id) == 'string' then
    return message.headers.id
  end
  return nil
end

-- Events ------------------------------------------------------------------------------------------------------------

-- `seq`: the event's number, where the caller has written it to the record.
local function emit(root, kind, data, seq)
  seq = seq or redis.call('HINCRBY', key_of(root), 'seq', '1')
  local stream = P .. 'events:' .. root
  redis.call('XADD', stream, 'MAXLEN', '~', config('events_limit'), seq .. '-0', 'type', kind, 'at', AT, 'data', data)
  if seq == 1 then redis.call('EXPIRE', stream, config('open_ttl_s')) end
end

-- Queues: at most `share` messages of a tenant wait in the shared list, so the list is a round of tenants -------------

-- The caller counts it among the tenant's messages there.
local function put(id, queue, priority, env, at_head)
  local job = key_of(id)
  if at_head then      -- it keeps its place in the order of pushing
    redis.call('HSET', job, 'listed', '1', 'parked', '0')
  else
    redis.call('HSET', job, 'listed', '1', 'parked', '0', 'pushed', AT)
  end
  redis.call('ZADD', P .. 'open', NOW + config('redeliver_ms'), id)
  redis.call(at_head and 'RPUSH' or 'LPUSH', list_of(queue, priority), env)
end

local function push(id, at_head)
  local job = redis.call('HMGET', key_of(id), 'queue', 'priority', 'tenant', 'deadline', 'env')
  local queue, priority, tenant = job[1], job[2], job[3]
  local share = tonumber(redis.call('HGET', P .. 'shares:' .. queue, priority .. ':' .. tenant) or 0)
  if share < config('share') or at_head then
    redis.call('HINCRBY', P .. 'shares:' .. queue, priority .. ':' .. tenant, '1')
    put(id, queue, priority, job[5], at_head)
  else
    redis.call('RPUSH', P .. 'parked:' .. queue .. ':' .. priority .. ':' .. tenant, id)
    redis.call('HINCRBY', P .. 'shares:' .. queue, 'parked', '1')
    redis.call('HSET', key_of(id), 'parked', '1', 'pushed', AT)
    redis.call('ZADD', P .. 'open', job[4], id)
  end
end

local function lower(hash, field)
  local left = redis.call('HINCRBY', hash, field, '-1')
  if left <= 0 then redis.call('HDEL', hash, field) end
  return left
end

-- Parked jobs of a tenant go into the shared list while the tenant has room there. A producer may have no right to the
-- next one, another application's: then the reconciler delivers it at once, and whoever claims it promotes the others.
-- Gives how many messages the tenant has in the shared list then; it had `held`.
local function promote(queue, priority, tenant, held)
  local shares, line = P .. 'shares:' .. queue, P .. 'parked:' .. queue .. ':' .. priority .. ':' .. tenant
  while held < config('share') do
    local id = redis.call('LINDEX', line, '0')
    if not id then break end
    local env = redis.pcall('HGET', key_of(id), 'env')
    if type(env) == 'table' then
      redis.call('ZADD', P .. 'open', AT, id)
      break
    end
    redis.call('LPOP', line)
    lower(shares, 'parked')
    put(id, queue, priority, env)
    held = held + 1
  end
  return held
end

-- The record's message leaves the shared list (or its place behind the tenant); the tenant's next one takes its place. The
-- caller writes down that the record is neither listed nor parked any more.
local function leave(id, queue, priority, tenant, listed, parked)
  if parked ~= '1' and listed ~= '1' then return end
  local shares, own = P .. 'shares:' .. queue, priority .. ':' .. tenant
  if parked == '1' then
    local line = P .. 'parked:' .. queue .. ':' .. own
    if redis.call('LREM', line, '1', id) == 1 then lower(shares, 'parked') end
  end
  local before = tonumber(redis.call('HGET', shares, own) or 0)
  local held = promote(queue, priority, tenant, parked == '1' and before or before - 1)
  if held <= 0 then
    redis.call('HDEL', shares, own)
  elseif held ~= before then
    redis.call('HSET', shares, own, held)
  end
end

local function unlist(id)
  local job = redis.call('HMGET', key_of(id), 'queue', 'priority', 'tenant', 'listed', 'parked')
  if job[4] ~= '1' and job[5] ~= '1' then return end
  redis.call('HSET', key_of(id), 'listed', '0', 'parked', '0')
  leave(id, unpack(job))
end

-- Ends ----------------------------------------------------------------------------------------------------------------

-- `known`: what has been read of the record: whether it is `listed` or `parked` ('1'), and of a job its `presence`, whether
-- it has `stages`, and its last event's `seq`. Further arguments: fields and values to be written with the state.
local function close_record(id, state, known, ...)
  if not known or known.listed == '1' or known.parked == '1' then unlist(id) end
  redis.call('HSET', key_of(id), 'state', state, 'finished', AT, 'env', '', ...)
  redis.call('ZREM', P .. 'open', id)
  redis.call('EXPIRE', key_of(id), config('job_ttl_s'))
end

-- The one way in which a job ends: record closed, last event, Celery's result stored and announced.
local function end_job(root, state, kind, data, meta, known)
  local seq = known and known.seq + 1 or redis.call('HINCRBY', key_of(root), 'seq', '1')
  close_record(root, state, known, 'seq', seq)
  emit(root, kind, data, seq)
  redis.call('EXPIRE', P .. 'events:' .. root, config('events_ttl_s'))
  if not known or known.stages then redis.call('EXPIRE', P .. 'stages:' .. root, config('job_ttl_s')) end
  if not known or known.presence == '1' then redis.call('DEL', P .. 'presence:' .. root) end
  local result = 'celery-task-meta-' .. root
  redis.call('SET', result, meta, 'EX', config('job_ttl_s'))
  redis.call('PUBLISH', result, meta)
end

local function iso(ms)
  local days = math.floor(ms / 86400000)
  local rest = ms - days * 86400000
  local z = days + 719468                      -- civil date from days, H. Hinnant, "chrono-compatible low-level date algorithms"
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03d+00:00', year, month, doy - math.floor((153 * mp + 2) / 5) + 1,
    math.floor(rest / 3600000), math.floor(rest / 60000) % 60, math.floor(rest / 1000) % 60, rest % 1000)
end

-- Celery's result of a failed job, from the fault's JSON.
local function failure_meta(root, status, fault)
  local f = cjson.decode(fault)
  return cjson.encode({
    status = status, traceback = cjson.null, task_id = root, date_done = iso(NOW),
    result = {exc_type = f.code, exc_message = {f.message}, exc_module = 'maeari'},
  })
end

local function fail_job(root, fault)
  local data = '{"fault":' .. fault .. '}'
  local code = cjson.decode(fault).code
  if code == 'cancelled' then
    end_job(root, 'cancelled', 'cancelled', data, failure_meta(root, 'REVOKED', fault))
  else
    redis.call('HSET', key_of(root), 'fault', fault)
    end_job(root, 'failed', 'failed', data, failure_meta(root, 'FAILURE', fault))
  end
end

local EXHAUSTED = 'The job failed on every attempt and lies in the dead letters.'

local function fault_json(code, message, stage)
  return cjson.encode({code = code, message = message, stage = stage, retryable = false})
end

local function bury(queue, job_id, task, reason, raw)
  return redis.call('XADD', P .. 'dead', 'MAXLEN', '~', config('dead_limit'), '*', 'queue', queue, 'job_id', job_id,
    'task', task, 'reason', reason, 'raw', raw)
end

-- A job that has spent its attempts: its own message (not the failed stage's) is kept, so that a replay runs it whole.
local function bury_job(root, reason)
  local top = redis.call('HMGET', key_of(root), 'queue', 'task', 'env')
  bury(top[1], root, top[2], reason, top[3] or '')
end

-- Why a record must not run (any more), or nil: its job has ended, its deadline has passed, its caller has gone.
-- `presence`: as the record says; that of a stage is looked up in its job's.
local function obstacle(id, root, deadline, presence)
  if root ~= id then
    local top = redis.call('HMGET', key_of(root), 'state', 'presence')
    if not top[1] or TERMINAL[top[1]] then return 'ended' end
    presence = top[2]
  end
  if tonumber(deadline) <= NOW then return 'deadline' end
  if presence == '1' and redis.call('EXISTS', P .. 'presence:' .. root) == 0 then return 'gone' end
  return nil
end

-- Close a record that met an obstacle; the job ends with it unless it had ended before.
local function drop(id, root, task, why)
  if root ~= id then close_record(id, 'cancelled') end
  if why == 'deadline' then fail_job(root, fault_json('deadline_exceeded', "The job's deadline has passed.", task)) end
  if why == 'gone' then fail_job(root, fault_json('caller_gone', 'The caller has gone away.', task)) end
end

-- A new record and its message, pushed or parked behind its tenant's share; a job's first event with it.
local function begin(id, task, queue, priority, tenant, root, max_attempts, deadline, presence, env)
  local job, list, shares = key_of(id), list_of(queue, priority), P .. 'shares:' .. queue
  local parked = tonumber(redis.call('HGET', shares, priority .. ':' .. tenant) or 0) >= config('share') and '1' or '0'
  redis.call('HSET', job, 'task', task, 'queue', queue, 'priority', priority, 'tenant', tenant, 'root', root, 'max_attempts',
    max_attempts, 'deadline', deadline, 'presence', presence, 'env', env, 'state', 'queued', 'fence', AT, 'attempts', '0',
    'reports', '0', 'listed', parked == '1' and '0' or '1', 'parked', parked, 'created', AT, 'pushed', AT,
    'seq', root == id and '1' or '0')
  redis.call('EXPIRE', job, config('open_ttl_s'))
  if root == id then emit(id, 'accepted', cjson.encode({task = task}), 1) end
  if parked == '1' then
    redis.call('RPUSH', P .. 'parked:' .. queue .. ':' .. priority .. ':' .. tenant, id)
    redis.call('HINCRBY', shares, 'parked', '1')
    redis.call('ZADD', P .. 'open', deadline, id)
  else
    redis.call('HINCRBY', shares, priority .. ':' .. tenant, '1')
    redis.call('ZADD', P .. 'open', NOW + config('redeliver_ms'), id)
    redis.call('LPUSH', list, env)
  end
end
