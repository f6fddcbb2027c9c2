--[[
What is new about tasks that somebody follows: how each stands, and its output after a position. Of a task that has not
ended its record is not read: whoever follows it has seen that it is his.

Guarantees
  - Read at one moment: what a task's standing says has ended has all its output here or behind `more`.
  - Nothing is written. At least one piece comes where there is one; beyond that a call stops at some 256 KiB.

KEYS  1 task HASH  2 run HASH  3 lease ZSET  then for each task: done STRING, output STREAM
ARGV  1 most pieces of output of a task  then for each task: task id, id of the output entry to begin with
Returns  for each task {done or false, 1 if there is a record else 0, run or false, 1 if leased else 0,
         1 if there is more output else 0, then output: id, data, id, data …}
]]
local task_key, run_key, lease_key = KEYS[1], KEYS[2], KEYS[3]
local call = redis.call
local most, page, room = tonumber(ARGV[1]), '8', 262144

--- Output from `first` on, into `into`; whether there is more.
local function read_output(key, first, into)
  local pieces = 0
  repeat
    local entries = call('XRANGE', key, first, '+', 'COUNT', page)
    for e = 1, #entries do
      if pieces > 0 and (room <= 0 or pieces >= most) then return 1 end
      local id, data = entries[e][1], entries[e][2][2]
      into[#into + 1], into[#into + 2] = id, data
      pieces, room, first = pieces + 1, room - #data, '(' .. id
    end
  until #entries < tonumber(page)
  return 0
end

local reply = {}
for i = 1, (#ARGV - 1) / 2 do
  local id, done = ARGV[2 * i], call('GET', KEYS[2 + 2 * i])
  local news = { done, 0, false, 0, 0 }
  if not done then
    news[2] = call('HEXISTS', task_key, id)
    news[3] = call('HGET', run_key, id)
    if news[3] and call('ZSCORE', lease_key, id) then news[4] = 1 end
  end
  if done or news[3] then news[5] = read_output(KEYS[3 + 2 * i], ARGV[2 * i + 1], news) end
  reply[i] = news
end
return reply
