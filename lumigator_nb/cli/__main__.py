from lumigator_nb.cli import main

main()
