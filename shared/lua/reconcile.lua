-- Look at the records that are due: deliver lost messages again, take over from dead workers, end what is too late.
-- Harmless when several run it at once, or when a message was not lost after all: the claim lets one attempt through.
--
-- ARGV  1 prefix  2 records to look at
-- Gives {delivered again, taken over, ended}
local again, taken, ended = 0, 0, 0
local LOST_LIMIT = 10      -- deliveries in a row that nobody began: the message ends whoever reads it

-- When the message that is served next was pushed. Lists are in order of pushing, so what was pushed before and is still
-- queued has left the list without being claimed.
local heads = {}
local function head_pushed(queue, priority)
  local list = list_of(queue, priority)
  if heads[list] == nil then
    heads[list] = NOW
    local raw = redis.call('LINDEX', list, -1)
    if raw then
      local id = id_of(raw)
      heads[list] = id and tonumber(redis.call('HGET', key_of(id), 'pushed') or 0) or 0
    end
  end
  return heads[list]
end

local function give_up(id, root, task, reason)
  bury_job(root, task .. ': ' .. reason)
  if root ~= id then close_record(id, 'failed') end
  fail_job(root, fault_json('attempts_exhausted', EXHAUSTED, task))
  ended = ended + 1
end

local function look(id)
  local job = key_of(id)
  local r = redis.call('HMGET', job, 'state', 'deadline', 'task', 'queue', 'priority', 'pushed', 'lease', 'env', 'presence')
  local state, root = r[1], root_of(id)
  if not state or TERMINAL[state] then
    redis.call('ZREM', P .. 'open', id)
    return
  end
  local why = obstacle(id, root, r[2], r[9])
  if why and (state ~= 'running' or tonumber(r[7]) <= NOW) then
    drop(id, root, r[3], why)
    ended = ended + 1
  elseif state == 'running' and tonumber(r[7]) > NOW then
    redis.call('ZADD', P .. 'open', r[7], id)
  elseif state == 'running' then
    redis.call('HSET', job, 'state', 'queued')
    push(id, true)
    taken = taken + 1
  elseif state == 'delayed' then
    redis.call('HSET', job, 'state', 'queued')
    push(id, false)
  elseif state == 'waiting' then
    redis.call('ZADD', P .. 'open', r[2], id)
  else
    if tonumber(r[6]) < head_pushed(r[4], r[5]) then
      if id_of(r[8]) ~= id then
        give_up(id, root, r[3], 'its message does not carry its id')
        return
      elseif redis.call('HINCRBY', job, 'lost', 1) > LOST_LIMIT then
        give_up(id, root, r[3], 'its message was delivered ' .. LOST_LIMIT .. ' times and never begun')
        return
      end
      redis.call('RPUSH', list_of(r[4], r[5]), r[8])
      again = again + 1
    end
    redis.call('ZADD', P .. 'open', math.min(NOW + config('redeliver_ms'), tonumber(r[2])), id)
  end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'open', '-inf', NOW, 'LIMIT', 0, tonumber(ARGV[2]))) do
  local fine, problem = pcall(look, id)
  if not fine then
    -- One damaged record must not keep all others from being looked at.
    bury('', id, '', 'its record is damaged: ' .. tostring(type(problem) == 'table' and problem.err or problem), '')
    redis.call('ZREM', P .. 'open', id)
  end
end
return {again, taken, ended}
