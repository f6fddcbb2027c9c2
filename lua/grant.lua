--[[
Notes what a principal is: by what its provider says, and by what it gives out credentials as that outlive its own.

Guarantees
  - Of all that a provider said the newest word counts, in whichever order it is heard; of two as new, the lesser. Who
    says so of 'now' without giving anything out is believed more only two minutes after the last that said less: of two
    logins in use at once that say different things each would else change it whenever it is used.
  - Nothing is given out as more than that word, by whichever credential. What was given out as more counts as no more
    from the moment this returns until the last of it has ended, or until a newer word says more: the ceiling is
    changed together with what is noted, its number, audit event and message as of a revocation.
  - Where nothing is given out and nothing has changed, or nothing was given out before, nothing is written.
  - Where there is no room for a ceiling none is set, the caller is told, and the same word is enough to try again.

KEYS
  1 grant STRING: 'w' [as of, ms since the epoch] [rank] [user type] of the newest word, if there is one; then 'g'
    [until, ms] [rank] [user type] of what was given out, but for what ends no later than another that is as much
  2 scope STRING  3 revoked ZSET  4 revocation HASH  5 revoked-order ZSET  6 revocation-head HASH  7 audit STREAM
  8 audit-head STRING
ARGV
  1 now ms (tests only, else '')  2 user type  3 its rank, higher is more
  4 if a provider says so: as of, ms since the epoch, or 'now'; else ''  5 ms that what is given out lasts, else ''
  6 member of the ceiling  7 what is kept of it (only Rust reads it)  8 most members  9 channel of policies
  10 an epoch of the revocations, should there be none  11 most audit events kept  12 by whom  13 about (JSON)
Returns
  {what it may be given out as, newest word as of or -1, members there where there was no room for a ceiling or -1},
  or {} of who gives out nothing and never did
]]
local keys = { scope = KEYS[2], revoked = KEYS[3], revocation = KEYS[4], order = KEYS[5], head = KEYS[6] }
local call, format = redis.call, string.format
-- Longer than a gateway goes without telling of a login that is in use.
local TURN_MS = 120000
local now, now_ceil = now_ms(ARGV[1])
local said, lasts = ARGV[4], tonumber(ARGV[5])

local noted, word, granted = call('GET', KEYS[1]) or '', nil, {}
for kind, at, rank, user_type in string.gmatch(noted, '([wg]) (%d+) (%d+) (%S+)') do
  local entry = { at = tonumber(at), rank = tonumber(rank), user_type = user_type }
  if kind == 'w' then
    word = entry
  elseif entry.at > now then
    granted[#granted + 1] = entry
  end
end
if #granted == 0 then
  if not lasts then return {} end
  word = nil
end

--- What was given out, with one more; of a number that grows with that of the ranks only.
local function with(new)
  local left = { new }
  for i = 1, #granted do
    local one = granted[i]
    if one.rank >= new.rank and one.at >= new.at then return granted end
    if one.rank > new.rank or one.at > new.at then left[#left + 1] = one end
  end
  return left
end

local before, own = word, { rank = tonumber(ARGV[3]), user_type = ARGV[2] }
if said ~= '' then
  local as_of = said == 'now' and now or tonumber(said)
  local is_turn = said == 'now' and not lasts and word and own.rank > word.rank and now < word.at + TURN_MS
  local is_newer = not word or as_of > word.at or as_of == word.at and own.rank < word.rank
  if is_newer and not is_turn then
    word = { at = as_of, rank = own.rank, user_type = own.user_type }
  end
end
local most = word and word.rank < own.rank and word or own
if lasts then granted = with({ at = now_ceil + lasts, rank = most.rank, user_type = most.user_type }) end

--- Sets, changes or takes away the ceiling, if this word does so to what was given out. Returns how many members there
-- are where there is no room for it.
local function follow()
  local until_ms, ceiling = 0, ''
  for i = 1, #granted do
    if granted[i].rank > word.rank then until_ms, ceiling = math.max(until_ms, granted[i].at), word.user_type end
  end
  local expiry, _, held = revoked_kept(keys, now, ARGV[6])
  if (held or '') == ceiling and expiry >= until_ms then return end
  if ceiling ~= '' and expiry <= now then
    local alive = revoked_alive(keys.revoked, now)
    if alive >= tonumber(ARGV[8]) then return alive end
  end
  -- One that is taken away is told of for as long as it would have stood, so that all who hold it hear of it.
  local fresh = { format('%d', math.max(until_ms, expiry)), ARGV[6] }
  local entries = { ARGV[6], revoked_packed(now_ceil, 0, ceiling, ARGV[7]) }
  local number, epoch = revocations_read(keys.scope, keys.head)
  local is_more = ceiling == '' or before and word.rank > before.rank
  -- First: nobody is lowered where it cannot be recorded, and no script takes back what it wrote.
  audit_append(KEYS[7], KEYS[8], ARGV[11], {
    'event', is_more and 'principal.raised' or 'principal.lowered', 'at', format('%d', now), 'by', ARGV[12],
    'about', ARGV[13], 'revocations', format('%d', revocations_next(number, revoked_what(fresh, entries))),
  })
  if epoch == '' then call('HSET', keys.head, 'epoch', ARGV[10]) end
  revoked_store(keys, now, number, fresh, entries, ARGV[9])
end

local full = said ~= '' and word.user_type == own.user_type and follow() or -1
local notes, last = {}, 0
if word then notes[1] = format('w %.0f %d %s', word.at, word.rank, word.user_type) end
for i = 1, #granted do
  notes[#notes + 1] = format('g %d %d %s', granted[i].at, granted[i].rank, granted[i].user_type)
  last = math.max(last, granted[i].at)
end
local notes_now = table.concat(notes, ' ')
if notes_now ~= noted then call('SET', KEYS[1], notes_now, 'PX', format('%d', last - now)) end
return { most.user_type, word and word.at or -1, full }
