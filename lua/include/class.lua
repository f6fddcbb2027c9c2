--- Adds to the numbers of queued tasks by class: `changes` is {class = difference}. Counts are for people; the queue
-- itself is the truth, and where it is empty so are they.
local function count_queued(scope_key, scope, changes, empty)
  for class, difference in pairs(changes) do
    local _, count = class_state(scope, class)
    count = empty and 0 or math.max(0, count + difference)
    redis.call('SETRANGE', scope_key, string.format('%d', CLASS_AT + 16 * class + 8), struct.pack('<d', count))
  end
end
