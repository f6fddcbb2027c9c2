--- The audit stream: everything that is changed or refused for good and is no decision of `admit`. A chain, whose head
-- (number and hash of the newest entry) has a key of its own, so that taking away the newest is noticed as well.

--- Appends an event. `fields` are names and values in turn, all strings; `n` goes before them.
local function audit_append(audit_key, head_key, most, fields)
  local packed, number, prev = redis.call('GET', head_key), 0, CHAIN_BEGIN
  if packed then number, prev = struct.unpack('<d', packed), string.sub(packed, 9) end
  local entry = { 'n', string.format('%d', number + 1) }
  for i = 1, #fields do entry[2 + i] = fields[i] end
  local hash = chain_hash(prev, entry)
  redis.call('XADD', audit_key, 'MAXLEN', '~', most, '*', 'prev', prev, 'hash', hash, unpack(entry))
  redis.call('SET', head_key, struct.pack('<d', number + 1) .. hash)
end
