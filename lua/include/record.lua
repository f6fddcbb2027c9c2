--- What the scripts themselves read and write of a task.
-- Record, in the `task` hash: [created ms][deadline ms or 0][probe epoch or 0][attempts allowed][class] and then the
-- body, which only Rust reads.
-- Run, in the `run` hash from the first lease on: [token or 0][runs][runs that do not count][attempts allowed]
-- [purpose][started ms][class] and then [started ms][ended ms] of each run that is over.
local RECORD = '<dddHB'
local RUN = '<dHHHBdB'
local RUN_PURPOSE, EXPIRE_PURPOSE, CANCEL_PURPOSE, BURY_PURPOSE = 1, 2, 3, 4
