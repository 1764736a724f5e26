"""From what people have to what is trained on: chats to instruction JSONL, and a look at the quality of either."""
