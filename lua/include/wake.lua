--- Leaves one token for whichever idle processor blocks on the list; never more than one, so it cannot grow.
local function wake(wake_key)
  if redis.call('LLEN', wake_key) == 0 then redis.call('LPUSH', wake_key, '1') end
end
