--[[
What has been revoked since the set of a number, a page at a time in the order of the changes; from the beginning where
that set is none of this history. Where scope and head of the revocations disagree, because one of them was lost on its
own, the one that counts further is stored in both.

Guarantees
  - Whoever goes on from each page's number until none is left has read what is revoked then, whatever was changed
    between two pages.

KEYS  1 scope STRING  2 revoked ZSET  3 revocation HASH  4 revoked-order ZSET  5 revocation-head HASH
ARGV  1 now ms (tests only, else '')  2 number held  3 epoch held  4 most members to return (64 to 4096; members of one
      change are not torn apart)
Returns  {now, number, epoch or '', acknowledgement or '', loss or '', 1 if it goes on from what is held else 0, number
          up to which it tells: the first one, unless there is more; then for each member: member, expiry ms, revoked
          ms, not before ms or 0, user type of a ceiling, what is kept of it}
]]
local scope_key, revoked_key, revocation_key, order_key, head_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local call, format, now = redis.call, string.format, now_ms(ARGV[1])
local number, epoch, acknowledged, lost, torn = revocations_read(scope_key, head_key)
if torn then revocations_store(scope_key, head_key, number) end
local held, goes_on = tonumber(ARGV[2]), 0
if epoch == ARGV[3] then
  if held == number then return { now, number, epoch, acknowledged, lost, 1, number } end
  -- Numbers of another history, or of a change that has been changed again, are nobody's.
  local score = format('%d', held)
  if held < number and #call('ZRANGEBYSCORE', order_key, score, score, 'LIMIT', '0', '1') > 0 then goes_on = 1 end
end

local from = goes_on == 1 and format('(%d', held) or '-inf'
local most = math.max(64, math.min(4096, tonumber(ARGV[4])))
local page = call('ZRANGEBYSCORE', order_key, from, '+inf', 'WITHSCORES', 'LIMIT', '0', format('%d', most + 1))
local told, size = number, #page
if size > 2 * most then
  local torn_apart = page[size]
  while size > 0 and page[size] == torn_apart do size = size - 2 end
  told = tonumber(page[size])
end
local reply, members = { now, number, epoch, acknowledged, lost, goes_on, told }, {}
for i = 1, size, 2 do members[#members + 1] = page[i] end
for first = 1, #members, 1024 do
  local last = math.min(#members, first + 1023)
  local expiries = call('ZMSCORE', revoked_key, unpack(members, first, last))
  local kept = call('HMGET', revocation_key, unpack(members, first, last))
  for i = first, last do
    local expiry, packed = expiries[i - first + 1], kept[i - first + 1]
    if expiry then
      local at, not_before, ceiling, rest = 0, 0, '', 1
      -- Without what is kept of it, it spares nobody.
      if packed then at, not_before, ceiling, rest = struct.unpack(REVOKED, packed) end
      local n = #reply
      reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4] = members[i], tonumber(expiry), at, not_before
      reply[n + 5], reply[n + 6] = ceiling, packed and string.sub(packed, rest) or ''
    end
  end
end
return reply
