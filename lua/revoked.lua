--[[
What is revoked, a page at a time: of the same number and epoch, the same set. Where scope and head of the revocations
disagree, because one of them was lost on its own, the one that counts further is stored in both.

KEYS  1 scope STRING  2 revoked ZSET  3 revocation HASH  4 revocation-head HASH
ARGV  1 now ms (tests only, else '')  2 number held  3 epoch held  4 members read before  5 most members to return
      (at most 4096)
Returns  {now, number, epoch or '', acknowledgement or '', members in all, or -1 if what is held is what is stored,
          then for each: member, expiry ms, revoked ms, not before ms or 0, user type of a ceiling, what is kept of it}
]]
local scope_key, revoked_key, revocation_key, head_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local call, now = redis.call, now_ms(ARGV[1])
local number, epoch, acknowledged, torn = revocations_read(scope_key, head_key)
if torn then revocations_store(scope_key, head_key, number) end
if ARGV[4] == '0' and number == tonumber(ARGV[2]) and epoch == ARGV[3] then
  return { now, number, epoch, acknowledged, -1 }
end
local from = tonumber(ARGV[4])
local page = call('ZRANGE', revoked_key, ARGV[4], string.format('%d', from + math.min(4096, tonumber(ARGV[5])) - 1),
  'WITHSCORES')
local reply, members = { now, number, epoch, acknowledged, call('ZCARD', revoked_key) }, {}
for i = 1, #page, 2 do members[#members + 1] = page[i] end
local kept = {}
for i = 1, #members, 1024 do
  local some = call('HMGET', revocation_key, unpack(members, i, math.min(#members, i + 1023)))
  for k = 1, #some do kept[i + k - 1] = some[k] end
end
for i = 1, #members do
  local at, not_before, ceiling, rest = 0, 0, '', 1
  -- Without what is kept of it, it spares nobody.
  if kept[i] then at, not_before, ceiling, rest = struct.unpack(REVOKED, kept[i]) end
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4] = members[i], tonumber(page[2 * i]), at, not_before
  reply[n + 5], reply[n + 6] = ceiling, kept[i] and string.sub(kept[i], rest) or ''
end
return reply
