def test_run(trained_run):
    import subprocess
    print(subprocess.run(["find", str(trained_run)], capture_output=True, text=True).stdout)
    print((trained_run/"baseline/log.csv").read_text(), (trained_run/"adversarial/log.csv").read_text())
    print((trained_run/"exports/toy-finetune.md").read_text())
