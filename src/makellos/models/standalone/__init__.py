"""The program that an exported folder is inspected with; nothing here imports makellos."""
