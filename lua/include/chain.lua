--- Chains of entries: each says its number `n`, the hash of the one before it, `prev`, and its own, `hash`. Whoever
-- changes, removes or inserts one breaks the chain there. Redis offers scripts SHA-1 and no other digest.
local CHAIN_BEGIN = string.rep('0', 40)

--- The hash of an entry: of `prev`, and of its other fields but `hash`, names and values in their order, each with its
-- length in four bytes before it.
local function chain_hash(prev, fields)
  local pieces = { prev }
  for i = 1, #fields do
    pieces[2 * i], pieces[2 * i + 1] = struct.pack('<I4', #fields[i]), fields[i]
  end
  return redis.sha1hex(table.concat(pieces))
end
