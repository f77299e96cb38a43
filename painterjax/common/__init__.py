"""What every part uses: errors, files, flags, signals, progress, recipes."""
